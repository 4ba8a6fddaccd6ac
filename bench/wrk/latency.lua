-- What wrk's own summary leaves out.
done = function(_, latency)
   io.write(string.format("99.9th %.0fus\n", latency:percentile(99.9)))
end
