"""What a model is seen to do, operation by operation, and what each operation costs."""
