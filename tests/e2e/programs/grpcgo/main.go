// A gRPC service and its client, and an h2c server, without generated code.
//
//	grpcgo server PORT
//	grpcgo client PORT CALLS CONNECTIONS SEED    one JSON line per call: what was asked, what came
//	grpcgo h2c PORT                              HTTP/2 by prior knowledge and by upgrade
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/h2c"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

const service = "shop.v1.Stock"

// Messages are plain bytes.
type raw struct{}

func (raw) Marshal(v any) ([]byte, error)   { return *v.(*[]byte), nil }
func (raw) Unmarshal(b []byte, v any) error { *v.(*[]byte) = append([]byte{}, b...); return nil }
func (raw) Name() string                    { return "raw" }

type handler = func(any, context.Context, func(any) error, grpc.UnaryServerInterceptor) (any, error)

func unary(f func([]byte) ([]byte, error)) handler {
	return func(_ any, _ context.Context, read func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		var in []byte
		if err := read(&in); err != nil {
			return nil, err
		}
		out, err := f(in)
		return &out, err
	}
}

func down(_ any, s grpc.ServerStream) error {
	var in []byte
	if err := s.RecvMsg(&in); err != nil {
		return err
	}
	count, _ := strconv.Atoi(string(in))
	for n := 0; n < count; n++ {
		out := make([]byte, n)
		if err := s.SendMsg(&out); err != nil {
			return err
		}
	}
	return nil
}

func up(_ any, s grpc.ServerStream) error {
	total := 0
	for {
		var in []byte
		err := s.RecvMsg(&in)
		if err == io.EOF {
			out := []byte(strconv.Itoa(total))
			return s.SendMsg(&out)
		}
		if err != nil {
			return err
		}
		total += len(in)
	}
}

func both(_ any, s grpc.ServerStream) error {
	for {
		var in, empty []byte
		err := s.RecvMsg(&in)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.SendMsg(&in); err != nil {
			return err
		}
		if err := s.SendMsg(&empty); err != nil {
			return err
		}
	}
}

func serve(port string) error {
	fail := func(in []byte) ([]byte, error) {
		code, _ := strconv.Atoi(string(in))
		return nil, status.Error(codes.Code(code), "a private word")
	}
	slow := func(in []byte) ([]byte, error) {
		time.Sleep(time.Second)
		return in, nil
	}
	server := grpc.NewServer(grpc.ForceServerCodec(raw{}))
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: service,
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{
			{MethodName: "Unary", Handler: unary(func(in []byte) ([]byte, error) { return in, nil })},
			{MethodName: "Fail", Handler: unary(fail)},
			{MethodName: "Slow", Handler: unary(slow)},
		},
		Streams: []grpc.StreamDesc{
			{StreamName: "Down", Handler: down, ServerStreams: true},
			{StreamName: "Up", Handler: up, ClientStreams: true},
			{StreamName: "Both", Handler: both, ServerStreams: true, ClientStreams: true},
		},
	}, struct{}{})
	listener, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		return err
	}
	return server.Serve(listener)
}

type done struct {
	Method   string `json:"method"`
	Status   string `json:"status"`
	Sent     int    `json:"sent"`
	Received int    `json:"received"`
	Timeout  bool   `json:"timeout"`
}

// The names that the wire has; Go's String() spells them otherwise.
var names = strings.Fields("OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS " +
	"PERMISSION_DENIED RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL " +
	"UNAVAILABLE DATA_LOSS UNAUTHENTICATED")

func stream(c *grpc.ClientConn, desc grpc.StreamDesc, path string, messages [][]byte) (int, error) {
	s, err := c.NewStream(context.Background(), &desc, path)
	if err != nil {
		return 0, err
	}
	for i := range messages {
		if err := s.SendMsg(&messages[i]); err != nil {
			return 0, err
		}
	}
	if err := s.CloseSend(); err != nil {
		return 0, err
	}
	for got := 0; ; got++ {
		var in []byte
		if err := s.RecvMsg(&in); err == io.EOF {
			return got, nil
		} else if err != nil {
			return got, err
		}
	}
}

func one(c *grpc.ClientConn, rng *rand.Rand, kind string) done {
	d := done{Method: service + "/" + kind, Sent: 1}
	path := "/" + d.Method
	ctx := context.Background()
	var err error
	invoke := func(in []byte) {
		var out []byte
		if err = c.Invoke(ctx, path, &in, &out); err == nil {
			d.Received = 1
		}
	}
	messages := func(size int) [][]byte {
		d.Sent = rng.Intn(9)
		all := make([][]byte, d.Sent)
		for i := range all {
			all[i] = make([]byte, size)
		}
		return all
	}
	switch kind {
	case "Unary", "Nope":
		invoke(make([]byte, []int{0, 3, 300, 3000}[rng.Intn(4)]))
	case "Down":
		d.Received, err = stream(c, grpc.StreamDesc{ServerStreams: true}, path,
			[][]byte{[]byte(strconv.Itoa(rng.Intn(9)))})
	case "Up":
		d.Received, err = stream(c, grpc.StreamDesc{ClientStreams: true}, path, messages(100))
	case "Both":
		d.Received, err = stream(c, grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, path, messages(300))
	case "Fail":
		invoke([]byte(strconv.Itoa(1 + rng.Intn(16))))
	case "Slow":
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 200*time.Millisecond)
		defer cancel()
		d.Timeout = true
		invoke([]byte("1"))
	case "Cancel":
		d.Method = service + "/Slow"
		path = "/" + d.Method
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		time.AfterFunc(50*time.Millisecond, cancel)
		invoke([]byte("1"))
	}
	d.Status = names[status.Code(err)]
	return d
}

func call(port string, calls, connections, seed int) error {
	rng := rand.New(rand.NewSource(int64(seed)))
	kinds := strings.Fields("Unary Down Up Both Fail Nope Slow Cancel")
	for len(kinds) < calls {
		kinds = append(kinds, kinds[[]int{0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 6, 7}[rng.Intn(16)]])
	}
	var lock sync.Mutex
	var group sync.WaitGroup
	clients := make([]*grpc.ClientConn, connections)
	for i := range clients {
		c, err := grpc.NewClient("127.0.0.1:"+port, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{})))
		if err != nil {
			return err
		}
		defer c.Close()
		clients[i] = c
		c.Connect() // else a call may end before it has begun
		for s := c.GetState(); s != connectivity.Ready; s = c.GetState() {
			c.WaitForStateChange(context.Background(), s)
		}
	}
	for n := 0; n < 2*connections; n++ {
		n := n
		group.Add(1)
		go func() {
			defer group.Done()
			mine := rand.New(rand.NewSource(int64(seed*1000 + n)))
			for i := n; i < calls; i += 2 * connections {
				line, _ := json.Marshal(one(clients[n%connections], mine, kinds[i]))
				lock.Lock()
				fmt.Println(string(line))
				lock.Unlock()
			}
		}()
	}
	group.Wait()
	return nil
}

func serveH2c(port string) error {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path == "/missing" {
			w.WriteHeader(404)
		}
		if size, found := strings.CutPrefix(r.URL.Path, "/size/"); found {
			n, _ := strconv.Atoi(strings.Split(size, "/")[0])
			w.Write(make([]byte, n))
			return
		}
		fmt.Fprintf(w, "%s %d", r.Method, len(body))
	})
	return http.ListenAndServe("127.0.0.1:"+port, h2c.NewHandler(handler, &http2.Server{}))
}

func main() {
	var err error
	switch os.Args[1] {
	case "server":
		err = serve(os.Args[2])
	case "h2c":
		err = serveH2c(os.Args[2])
	default:
		bufio.NewReader(os.Stdin).ReadString('\n') // whoever observes it is ready
		var n [3]int
		for i := range n {
			n[i], _ = strconv.Atoi(os.Args[3+i])
		}
		err = call(os.Args[2], n[0], n[1], n[2])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
