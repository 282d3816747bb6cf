"""The lab: Debian kernels, booted in virtual machines, with devices and load."""
