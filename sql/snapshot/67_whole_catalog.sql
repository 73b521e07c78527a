-- one row: the catalog of the split published, at all times every item of the log, seen or not
-- first_seen, items   as in 64_catalogs.sql
with final as (
    select
        cast('-infinity' as timestamptz) as first_seen,
        cast(count(*) as integer) as items
    from items
)

select * from final
