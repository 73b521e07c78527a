-- one row per row of the delivered files that is no event (view)
-- reason   'blank' is a line that is no row at all; the others go to the quarantine
select
    source_file,
    source_row,
    reason,
    raw
from read_parquet(getvariable('rejected'))
