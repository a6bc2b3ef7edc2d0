#!/bin/sh
# The borders between rooms (ARCHITECTURE.md): a room includes only itself, the vocabulary, and rooms
# upstream of it; and every header compiles alone.
#   check-rooms.sh [--fast]     --fast leaves the headers out
set -u
cd "$(dirname "$0")/.." || exit 1
bad=0

# What a room may include besides itself. base is for everyone; agent knows everyone. The headers
# traces/{span,attributes}.h, conntrack/connection.h and protocol/{exchange,names}.h are vocabulary.
allowed() {
  case $1 in
  base) echo '' ;;
  event) echo 'base' ;;
  metrics) echo 'base' ;;
  config) echo 'base' ;;
  redact) echo 'base' ;;
  discovery) echo 'base event config metrics redact' ;;
  hook) echo 'base event config metrics discovery' ;;
  conntrack) echo 'base event config metrics discovery hook reassembly protocol' ;;
  reassembly) echo 'base event config metrics' ;;
  protocol) echo 'base event config metrics reassembly redact hook' ;;
  traces) echo 'base event config metrics discovery redact' ;;
  export) echo 'base config metrics traces redact' ;;
  *) echo '*' ;;
  esac
}
vocabulary=' traces/span.h traces/attributes.h traces/semconv.h traces/traceparent.h conntrack/connection.h protocol/exchange.h protocol/names.h discovery/process.h '

for file in $(git ls-files --cached --others --exclude-standard 'src/*.h' 'src/*.cpp'); do
  [ -e "$file" ] || continue
  room=${file#src/}
  case $room in */*) room=${room%%/*} ;; *) continue ;; esac
  # Tests may look around.
  case $file in *_test.cpp) continue ;; esac
  list=$(allowed "$room")
  [ "$list" != '*' ] || continue
  for include in $(sed -n 's/^#include "\([^"]*\)".*/\1/p' "$file"); do
    case $include in */*) other=${include%%/*} ;; *) continue ;; esac
    [ -d "src/$other" ] || continue
    case " $room base $list " in *" $other "*) continue ;; esac
    case $vocabulary in *" $include "*) continue ;; esac
    echo "$file: room '$room' must not include $include"
    bad=1
  done
done

if [ "${1:-}" != --fast ]; then
  headers=$(git ls-files --cached --others --exclude-standard 'src/*.h')
  for header in $headers; do
    [ -e "$header" ] || continue
    echo "$header"
  done | xargs -P "$(nproc)" -I{} sh -c \
    'g++ -std=c++23 -Isrc -DFMT_HEADER_ONLY -DOLLY_VERSION=\"x\" -Wall -Wextra -Wno-missing-field-initializers -fsyntax-only -x c++ "$1" 2>/tmp/olly-header.$$ ||
       { echo "$1: does not compile alone"; head -5 /tmp/olly-header.$$; rm -f /tmp/olly-header.$$; exit 255; }; rm -f /tmp/olly-header.$$' sh {} || bad=1
fi
[ $bad = 0 ] && echo "rooms: borders kept"
exit $bad
