-- POSTs one body; tells in the last line what came of it, as JSON.
-- Arguments after "--": the file of the body, and the API key. In the environment: BENCH_KEYS, what
-- an Idempotency-Key of every request begins with; BENCH_RATE, how many requests a second.

local ffi = require "ffi"
ffi.cdef [[
    struct bench_time { long seconds; long nanoseconds; };
    int clock_gettime(int clock, struct bench_time *now);
]]
local moment = ffi.new "struct bench_time"

local function milliseconds()
    ffi.C.clock_gettime(1, moment)
    return tonumber(moment.seconds) * 1e3 + tonumber(moment.nanoseconds) / 1e6
end

function init(arguments)
    local file = assert(io.open(arguments[1], "rb"))
    wrk.method, wrk.body = "POST", file:read "*a"
    file:close()
    wrk.headers["Content-Type"] = "application/json"
    wrk.headers["Authorization"] = "Bearer " .. arguments[2]
end

-- wrk decides by whether these functions are there, before it calls init.
if os.getenv "BENCH_KEYS" then
    local run, count = os.getenv "BENCH_KEYS", 0
    function request()
        count = count + 1
        wrk.headers["Idempotency-Key"] = run .. "-" .. count
        return wrk.format()
    end
end

if os.getenv "BENCH_RATE" then
    -- One schedule for all connections: whichever is free takes the next place in it, so that an
    -- answer that is late does not hold up the others.
    local interval, due = 1e3 / tonumber(os.getenv "BENCH_RATE"), nil
    function delay()
        due = (due or milliseconds()) + interval * -math.log(1 - math.random())
        return math.max(0, math.floor(due - milliseconds() + 0.5))
    end
end

function done(summary, latency, _)
    local errors = summary.errors
    io.write(string.format(
        '{"per_second": %f, "p50_ms": %f, "p99_ms": %f, "count": %d, "errors": %d, "refused": %d}\n',
        (summary.requests - errors.status) / summary.duration * 1e6,
        latency:percentile(50) / 1e3,
        latency:percentile(99) / 1e3,
        summary.requests,
        errors.connect + errors.read + errors.write + errors.timeout,
        errors.status
    ))
end
