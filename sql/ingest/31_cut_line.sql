-- one row per last line without a line end that is no whole row: its copy was cut, whatever else it looks like
select rowid as candidate
from candidates
where
    file_number = getvariable('file_number')
    and source_row = getvariable('unterminated')
    and (reason in ('missing_columns', 'bad_timestamp') or outside_window)
