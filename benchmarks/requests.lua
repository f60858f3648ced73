-- wrk sends requests that are already written: BENCH_REQUESTS is a file of them, each ended by a zero byte. Where one has
-- KKKKKKKKKKKKKKKK, BENCH_RUN and a number take its place, so that no two requests have the same key.
local PLACE = string.rep("K", 16)
local requests, before, after = {}, {}, {}
local run = os.getenv("BENCH_RUN")
local asked = 0

function init()
  local file = io.open(os.getenv("BENCH_REQUESTS"), "rb")
  for request in file:read("*a"):gmatch("[^%z]+") do
    requests[#requests + 1] = request
    local from, to = request:find(PLACE, 1, true)
    if from then
      before[#requests], after[#requests] = request:sub(1, from - 1), request:sub(to + 1)
    end
  end
  file:close()
  math.randomseed(tonumber(run, 16))
end

function request()
  local chosen = math.random(#requests)
  if not before[chosen] then
    return requests[chosen]
  end
  asked = asked + 1
  return before[chosen] .. string.format("%s%08d", run, asked) .. after[chosen]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %.3f, "p50_ms": %.3f, "p99_ms": %.3f, "not_2xx": %d, "broken": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
