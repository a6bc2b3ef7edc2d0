// Runs the plan that it reads from stdin with pgx, and prints what became of each operation.
// pgclient PORT: the plan is a line of JSON, a list per connection of {id, kind, sql, args, rows}.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

type operation struct {
	Id   int
	Kind string // query, batch, copy
	Mode string
	Sql  string
	Args []any
	Many []string
	Rows int
}

type outcome struct {
	Id   int    `json:"id"`
	N    int    `json:"n"`
	Rows int    `json:"rows"`
	Code string `json:"code"`
}

func code(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	if err != nil {
		panic(err)
	}
	return ""
}

func read(rows pgx.Rows, err error) (int, string) {
	if err != nil {
		return 0, code(err)
	}
	n := 0
	for rows.Next() {
		n++
	}
	return n, code(rows.Err())
}

var modes = map[string]pgx.QueryExecMode{
	"cache":    pgx.QueryExecModeCacheStatement,
	"describe": pgx.QueryExecModeDescribeExec,
	"exec":     pgx.QueryExecModeExec,
	"simple":   pgx.QueryExecModeSimpleProtocol,
}

func run(ctx context.Context, port string, plan []operation, log chan<- outcome) {
	conn, err := pgx.Connect(ctx, fmt.Sprintf("postgres://olly@127.0.0.1:%s/shop", port))
	if err != nil {
		panic(err)
	}
	defer conn.Close(ctx)
	time.Sleep(200 * time.Millisecond) // for an observer to notice the connection
	for _, op := range plan {
		switch op.Kind {
		case "query":
			args := []any{modes[op.Mode]}
			for _, a := range op.Args {
				args = append(args, int64(a.(float64)))
			}
			n, c := read(conn.Query(ctx, op.Sql, args...))
			log <- outcome{op.Id, 0, n, c}
		case "batch":
			batch := &pgx.Batch{}
			for _, sql := range op.Many {
				batch.Queue(sql)
			}
			results := conn.SendBatch(ctx, batch)
			for i := range op.Many {
				n, c := read(results.Query())
				log <- outcome{op.Id, i, n, c}
				if c != "" {
					break
				}
			}
			results.Close()
		case "copy":
			source := [][]any{}
			for i := 0; i < op.Rows; i++ {
				source = append(source, []any{"go", i})
			}
			_, err := conn.CopyFrom(ctx, pgx.Identifier{"logs"}, []string{"u", "n"}, pgx.CopyFromRows(source))
			log <- outcome{op.Id, 0, 0, code(err)}
		}
	}
}

func main() {
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	line, err := in.ReadBytes('\n')
	if err != nil {
		panic(err)
	}
	var plans [][]operation
	if err := json.Unmarshal(line, &plans); err != nil {
		panic(err)
	}
	log := make(chan outcome)
	var all sync.WaitGroup
	for _, plan := range plans {
		all.Add(1)
		go func(plan []operation) {
			defer all.Done()
			run(context.Background(), os.Args[1], plan, log)
		}(plan)
	}
	go func() { all.Wait(); close(log) }()
	out := json.NewEncoder(os.Stdout)
	for o := range log {
		out.Encode(o)
	}
}
