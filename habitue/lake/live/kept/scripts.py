"""What Redis does in one step, in its own language; keys begin with the prefix in ARGV[1].

    shop:S            number and what is told of the whole shop
    customer:S:C      number -> one customer's numbers, packed
    of:S:N            the customers that have numbers under N
    unsaid:S:N        those of them of whom is to be told when N comes into force
    item:S:N          item -> what is known of it, packed
    sold:S:N          items by what they sold; of a category: sold:S:N:CATEGORY
    numbers:S         every number under which something of the shop stands
    sequence, news:0, news:1, news:2, newest (S and C -> sequence), about (sequence -> S and C)

Names of shops and customers are packed with their length before them, so that none is another's.
"""

_COMMON = """
local p = ARGV[1]
local function key(kind, ...)
  local k = p .. kind
  for _, part in ipairs({...}) do k = k .. ':' .. #part .. ':' .. part end
  return k
end
local function who(shop, customer) return #shop .. ':' .. shop .. customer end
local function forget(of)
  local old = redis.call('HGET', p .. 'newest', of)
  if not old then return nil end
  local turn = nil
  for t = 0, 2 do
    if redis.call('ZREM', p .. 'news:' .. t, old) == 1 then turn = t end
  end
  redis.call('HDEL', p .. 'about', old)
  redis.call('HDEL', p .. 'newest', of)
  return turn
end
local function tell(shop, customer, turn)
  local of = who(shop, customer)
  forget(of)
  local sequence = redis.call('INCR', p .. 'sequence')
  redis.call('HSET', p .. 'newest', of, sequence)
  redis.call('HSET', p .. 'about', sequence, cmsgpack.pack({shop, customer}))
  redis.call('ZADD', p .. 'news:' .. turn, sequence, sequence)
end
local function number_of(shop) return redis.call('HGET', key('shop', shop), 'number') end
local function drop(shop, customer)
  for _, n in ipairs(redis.call('SMEMBERS', key('numbers', shop))) do
    redis.call('SREM', key('of', shop, n), customer)
    redis.call('SREM', key('unsaid', shop, n), customer)
  end
  redis.call('DEL', key('customer', shop, customer))
end
"""

# ARGV: prefix, shop, names …; what is of the whole shop, then a row or nothing for each name
CUSTOMERS = _COMMON + """
local shop = ARGV[2]
local number = number_of(shop)
if not number then return {} end
local rows = {redis.call('HGET', key('shop', shop), 'told')}
for i = 3, #ARGV do
  rows[#rows + 1] = redis.call('HGET', key('customer', shop, ARGV[i]), number)
end
return rows
"""

# ARGV: prefix, shop, items …
ITEMS = _COMMON + """
local shop = ARGV[2]
local number = number_of(shop)
if not number then return {} end
local rows = {}
for i = 3, #ARGV do
  rows[#rows + 1] = redis.call('HGET', key('item', shop, number), ARGV[i])
end
return rows
"""

# ARGV: prefix, shop, after, most, category (missing: any)
BEST = _COMMON + """
local shop = ARGV[2]
local number = number_of(shop)
if not number then return {} end
local sold = key('sold', shop, number)
if #ARGV == 5 then sold = key('sold', shop, number, ARGV[5]) end
local names = redis.call('ZREVRANGE', sold, ARGV[3], ARGV[3] + ARGV[4] - 1)
local rows = {}
for i, name in ipairs(names) do rows[i] = redis.call('HGET', key('item', shop, number), name) end
return rows
"""

# ARGV: prefix, shop
COUNT = _COMMON + """
local number = number_of(ARGV[2])
if not number then return 0 end
return redis.call('SCARD', key('of', ARGV[2], number))
"""

# ARGV: prefix, shop, number, (customer, row) …; what is not in force yet is no news
PUT = _COMMON + """
local shop, number = ARGV[2], ARGV[3]
redis.call('SADD', key('numbers', shop), number)
local in_force = number_of(shop) == number
for i = 4, #ARGV, 2 do
  redis.call('HSET', key('customer', shop, ARGV[i]), number, ARGV[i + 1])
  redis.call('SADD', key('of', shop, number), ARGV[i])
  if in_force then tell(shop, ARGV[i], 0)
  else redis.call('SADD', key('unsaid', shop, number), ARGV[i]) end
end
"""

# ARGV: prefix, shop, number, (item, sold, category, row) …
PUT_ITEMS = _COMMON + """
local shop, number = ARGV[2], ARGV[3]
redis.call('SADD', key('numbers', shop), number)
for i = 4, #ARGV, 4 do
  local item, sold, category = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  redis.call('HSET', key('item', shop, number), item, ARGV[i + 3])
  redis.call('ZADD', key('sold', shop, number), sold, item)
  redis.call('ZADD', key('sold', shop, number, category), sold, item)
  redis.call('SADD', key('categories', shop, number), category)
end
"""

# ARGV: prefix, shop, number, told; from then on what stands under the number is in force
BEGIN = _COMMON + """
redis.call('HSET', key('shop', ARGV[2]), 'number', ARGV[3], 'told', ARGV[4])
"""

# ARGV: prefix, shop, number, most; after BEGIN, until it answers 0: everybody who has numbers, or
# had some, is news, and what is of an earlier number goes; some customers at a time, since Redis
# answers nobody else meanwhile
SWEEP = _COMMON + """
local shop, number, left = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local function news(customer)
  local turn = forget(who(shop, customer))
  if turn ~= 0 then turn = 1 end
  tell(shop, customer, turn)
end
for _, n in ipairs(redis.call('SMEMBERS', key('numbers', shop))) do
  if tonumber(n) <= number then
    local former = tonumber(n) < number
    local names = redis.call('SPOP', key(former and 'of' or 'unsaid', shop, n), left)
    for _, customer in ipairs(names) do
      news(customer)
      if former then redis.call('HDEL', key('customer', shop, customer), n) end
    end
    left = left - #names
    if left <= 0 then return 1 end
    if former then
      for _, category in ipairs(redis.call('SMEMBERS', key('categories', shop, n))) do
        redis.call('UNLINK', key('sold', shop, n, category))
      end
      redis.call('UNLINK', key('unsaid', shop, n), key('item', shop, n), key('sold', shop, n),
        key('categories', shop, n))
      redis.call('SREM', key('numbers', shop), n)
    end
  end
end
return 0
"""

# ARGV: prefix, shop, customers …
DROP = _COMMON + """
for i = 3, #ARGV do
  drop(ARGV[2], ARGV[i])
  tell(ARGV[2], ARGV[i], 0)
end
"""

# ARGV: prefix, shop, customers …
ERASE = _COMMON + """
for i = 3, #ARGV do
  drop(ARGV[2], ARGV[i])
  forget(who(ARGV[2], ARGV[i]))
end
"""

# ARGV: prefix, most; of each: sequence, shop, customer, number or '', row or ''
NEWS = _COMMON + """
local rows, most = {}, tonumber(ARGV[2])
for turn = 0, 1 do
  if most > 0 then
    for _, sequence in ipairs(redis.call('ZRANGE', p .. 'news:' .. turn, 0, most - 1)) do
      local about = cmsgpack.unpack(redis.call('HGET', p .. 'about', sequence))
      local number = number_of(about[1])
      local row = number and redis.call('HGET', key('customer', about[1], about[2]), number)
      rows[#rows + 1] = {sequence, about[1], about[2], row and number or '', row or ''}
      most = most - 1
    end
  end
end
return rows
"""

# ARGV: prefix, turn ('': told), sequences …; those that were replaced since are left alone
SETTLE = _COMMON + """
for i = 3, #ARGV do
  local about = redis.call('HGET', p .. 'about', ARGV[i])
  if about then
    local told = cmsgpack.unpack(about)
    if ARGV[2] == '' then
      forget(who(told[1], told[2]))
    else
      for turn = 0, 2 do redis.call('ZREM', p .. 'news:' .. turn, ARGV[i]) end
      redis.call('ZADD', p .. 'news:' .. ARGV[2], ARGV[i], ARGV[i])
    end
  end
end
"""

# ARGV: prefix
AGAIN = _COMMON + """
redis.call('ZUNIONSTORE', p .. 'news:1', 2, p .. 'news:1', p .. 'news:2', 'AGGREGATE', 'MAX')
redis.call('DEL', p .. 'news:2')
"""
