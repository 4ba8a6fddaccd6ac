-- Paths that match no condition and the last third of the map, so that a linear search pays for all of it.
local n = 0
request = function()
   n = n + 1
   return wrk.format("GET", "/map/" .. (6667 + n % 3333) .. "/100")
end
