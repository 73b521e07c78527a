-- one row per moment of the split temporal
-- moment
-- part   'training', 'validation' or 'test', by the times that divide the split
with final as (
    select
        moments.moment,
        case
            when moments.event_time < temporal_bounds.validation_from then 'training'
            when moments.event_time < temporal_bounds.test_from then 'validation'
            else 'test'
        end as part
    from moments
    cross join temporal_bounds
)

select * from final
