-- one row per good row of the delivered files that is in the piece at hand (view)
select
    user_id,
    item_id,
    cast(behavior as behavior) as behavior,
    event_time,
    category_id,
    value,
    cast(source_file as source_file) as source_file,
    source_row
from piece
