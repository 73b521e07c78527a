"""What events and snapshots must be, as code; Great Expectations judges it; Data Docs and pages of ours show it."""
