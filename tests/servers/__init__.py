"""Real servers of Debian's packages, started on loopback for a test and ended after it."""
