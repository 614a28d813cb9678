"""What the what-if form is made of, see `nbanalyzer.notebook.form.whatif`."""
