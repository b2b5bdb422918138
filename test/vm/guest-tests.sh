#!/bin/sh
# In the virtual machine: runs test files, one at a time (their deadlines are a host's), and says the totals as `npm test` does.
count() { sed -n "s/^[^a-z]* *$1 \([0-9]*\)$/\1/p" /tmp/test.log | tail -n 1; }
rm -f /tmp/test.pipe # of the boot before
mkfifo /tmp/test.pipe
tee /tmp/test.log </tmp/test.pipe &
node --test --test-reporter=spec --test-concurrency=1 --test-timeout=900000 "$@" >/tmp/test.pipe 2>&1
code=$?
wait
cancelled=$(count cancelled)
printf '\n%s passed, %s failed, %s skipped\n' "$(count pass)" "$(($(count fail) + cancelled))" "$(count skipped)"
exit "$code"
