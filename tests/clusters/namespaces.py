from harness import Suite
suite = Suite('namespaces')
