-- one row per plain line of a KuaiRand log (view): what 20_kuairand gives for it
with named as (
    select
        *,
        milliseconds_fault(time_ms) as fault,
        case
            when is_hate = '1' then 'hate'
            when is_follow = '1' then 'follow'
            when is_like = '1' then 'like'
            when long_view = '1' then 'long_view'
            when '1' in (is_click, is_comment, is_forward) then 'click'
            else 'skip'
        end as feedback
    from plain
),

final as (
    select
        source_row,
        line,
        fault,
        user_id,
        video_id as item_id,
        cast(feedback as behavior) as behavior,
        case when fault is null then 1000 * time_ms end as time_us,
        cast(null as bigint) as category_id,
        cast(feedback not in ('hate', 'skip') as double) as value
    from named
)

select * from final
