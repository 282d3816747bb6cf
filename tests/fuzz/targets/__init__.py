"""What is fuzzed, a file each, with the `Target` in TARGET."""
