from harness import Suite
suite = Suite('ssh')
