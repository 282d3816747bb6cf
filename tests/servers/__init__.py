"""Real servers of Debian's packages, on loopback, for as long as a test takes."""
