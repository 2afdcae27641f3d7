"""What is run: models, cases, suites, pinned inputs, and one file a workload. Imports nothing of the other rooms."""
