"""The parts of the what-if form, see `nbanalyzer.notebook.form.whatif`."""
