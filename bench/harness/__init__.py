"""The parts of bench/run. Start at scenarios.py: a new scenario is an entry there and a configuration in bench/peers."""
