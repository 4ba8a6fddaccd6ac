-- Mostly idle connections: each waits about a second after every answer.
function delay()
   return math.random(900, 1100)
end

request = function()
   return wrk.format("GET", "/100")
end
