// Does what a plan says through go-sql-driver/mysql, and writes down what came of it. See mysql_client.py.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"
)

// One operation; returns rows (or rows changed) and the server's error number.
func do(c *sql.Conn, op, text string, args []any) (int64, int) {
	ctx := context.Background()
	number := func(err error) int {
		var e *mysql.MySQLError
		if errors.As(err, &e) {
			return int(e.Number)
		}
		if err != nil {
			return -1
		}
		return 0
	}
	if op == "ping" {
		return -1, number(c.PingContext(ctx))
	}
	if !strings.HasPrefix(text, "SELECT") {
		result, err := c.ExecContext(ctx, text, args...)
		if err != nil {
			return -1, number(err)
		}
		n, _ := result.RowsAffected()
		return n, 0
	}
	rows, err := c.QueryContext(ctx, text, args...)
	if err != nil {
		return -1, number(err)
	}
	defer rows.Close()
	var n int64
	for rows.Next() {
		n++
	}
	return n, number(rows.Err())
}

func main() {
	port, plan, log, wait := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	for {
		if _, err := os.Stat(wait); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	text, err := os.ReadFile(plan)
	if err != nil {
		panic(err)
	}
	by := map[string][][]string{}
	for _, line := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
		f := strings.Split(line, "\t")
		by[f[0]] = append(by[f[0]], f)
	}
	var lock sync.Mutex
	var out strings.Builder
	var all sync.WaitGroup
	for database, ops := range by {
		all.Add(1)
		go func(database string, ops [][]string) {
			defer all.Done()
			db, err := sql.Open("mysql", fmt.Sprintf("joe:hunter2@tcp(127.0.0.1:%s)/%s", port, database))
			if err != nil {
				panic(err)
			}
			c, err := db.Conn(context.Background())
			if err != nil {
				panic(err)
			}
			for _, f := range ops {
				var args []any
				if f[4] != "" {
					for _, a := range strings.Split(f[4], ",") {
						args = append(args, a)
					}
				}
				rows, number := do(c, f[2], f[3], args)
				lock.Lock()
				fmt.Fprintf(&out, "%s\t%s\t%d\t%d\n", f[0], f[1], rows, number)
				lock.Unlock()
			}
			c.Close()
			db.Close()
		}(database, ops)
	}
	all.Wait()
	os.WriteFile(log+".part", []byte(out.String()), 0o644)
	os.Rename(log+".part", log)
	time.Sleep(time.Minute)
}
