"""The parts of the snapshot stage: each module runs the statements of sql/snapshot for one kind of file."""
