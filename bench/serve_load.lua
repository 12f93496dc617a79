-- serve_load.lua - wrk's requests for serve_load.sh: searches by the vectors of an fvecs file, as JSON or as raw floats, in turn.
-- QUERIES: the file; BODY: json or raw.
local requests, at = {}, 0

local function u32(s, i)
   local a, b, c, d = s:byte(i, i + 3)
   return a + b * 256 + c * 65536 + d * 16777216
end

local function f32(s, i)
   local bits = u32(s, i)
   local sign, exponent, fraction = bits >= 2147483648 and -1 or 1, math.floor(bits / 8388608) % 256, bits % 8388608
   if exponent == 0 then return sign * fraction * 2 ^ -149 end
   return sign * (1 + fraction / 8388608) * 2 ^ (exponent - 127)
end

function init()
   local file = assert(io.open(os.getenv("QUERIES"), "rb"))
   local head = file:read(4)
   local dim = u32(head, 1)
   file:seek("set", 0)
   local raw = os.getenv("BODY") == "raw"
   for _ = 1, 1000 do
      local row = file:read(4 + 4 * dim)
      if not row then break end
      if raw then
         requests[#requests + 1] = wrk.format("POST", nil, { ["Content-Type"] = "application/x-float32" }, row:sub(5))
      else
         local x = {}
         for d = 1, dim do x[d] = string.format("%.7g", f32(row, 1 + 4 * d)) end
         requests[#requests + 1] = wrk.format("POST", nil, { ["Content-Type"] = "application/json" },
            '{"vector":[' .. table.concat(x, ",") .. '],"k":10}')
      end
   end
   file:close()
end

function request()
   at = at % #requests + 1
   return requests[at]
end

function done(summary, latency)
   local e = summary.errors
   io.write(string.format("RESULT %d %d %d %.1f %.1f\n", summary.requests, summary.duration,
      e.connect + e.read + e.write + e.status + e.timeout, latency:percentile(50), latency:percentile(99)))
end
