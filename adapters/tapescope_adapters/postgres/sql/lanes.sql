-- name: flush
-- The whole of a flush: see the function in the migrations. The settings are those that a session cannot
-- keep for us: they hold for this one transaction.
SELECT /*settings*/ flush($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
             $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38);

-- name: fence
-- Spend the number of a flush whose fate is unknown, or learn what it was answered.
SELECT fence($1, $2);

-- name: forget_lane
-- A lane of a store that is closed.
DELETE FROM lanes WHERE lane = $1;

-- name: forget_stale_lanes
-- The lanes of stores that were never closed: a day is longer than any flush is sent again.
DELETE FROM lanes WHERE touched < now_us() - 86400000000;

-- name: flush_giving_up
-- The whole of a flush in which attempts give their tasks up: see the function in the migrations.
SELECT /*settings*/ flush_giving_up($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
                       $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34,
                       $35, $36, $37, $38, $39, $40, $41);
