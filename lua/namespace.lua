-- Fixes a namespace's partition count the first time it is used.
-- KEYS namespace hash
-- ARGV partitions number
-- Reply: ok partitions
redis.call('HSETNX', namespace, 'partitions', partitions)
redis.call('HSETNX', namespace, 'format', '1')
return {'ok', redis.call('HGET', namespace, 'partitions')}
