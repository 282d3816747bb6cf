"""Coverage-guided fuzzing of all that reads what others wrote: docs/fuzzing.md."""
