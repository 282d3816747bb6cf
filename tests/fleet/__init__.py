"""A simulated fleet: hosts with devices, upgraded in waves, with known regressions.

PYTHONPATH=.:tests python -m fleet --hosts 50 --devices 20 --hours 24 > fleet.om
"""
