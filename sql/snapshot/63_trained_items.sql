-- one row per item that occurs in anyone's training range
-- item
with final as (
    select distinct events.item from events
    inner join training on events.user = training.user
    where events.event < training.train_end
)

select * from final
