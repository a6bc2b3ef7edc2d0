#!/bin/sh
# install-atomically.sh FROM TO: copies when different, by rename, so that a running TO goes on.
set -eu
cmp -s "$1" "$2" && exit 0
cp -f "$1" "$2.new.$$"
mv -f "$2.new.$$" "$2"
