-- one row: the times that divide the split temporal
-- validation_from   training is before it
-- test_from         validation is before it
with final as (
    select
        quantile_disc(event_time, getvariable('validation_quantile')) as validation_from,
        quantile_disc(event_time, getvariable('test_quantile')) as test_from
    from target_events
)

select * from final
