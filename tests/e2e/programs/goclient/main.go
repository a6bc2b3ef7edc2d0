// A client on Go's net/http: goclient http1|http2. Reads a JSON line {"url", "connections",
// "requests": [[method, path, body or null]]}, does it, and prints what came of it, as workload.py has it.
// With a certificate in TEST_TLS_CA it trusts that one; with TEST_TLS_MAX=1.2 it speaks no newer version.
package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
)

type job struct {
	URL         string
	Connections int
	Requests    [][3]*string
}

func transport() *http.Transport {
	t := &http.Transport{MaxIdleConnsPerHost: 1, MaxConnsPerHost: 1}
	if ca := os.Getenv("TEST_TLS_CA"); ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			panic(err)
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(pem)
		t.TLSClientConfig = &tls.Config{RootCAs: pool}
		if os.Getenv("TEST_TLS_MAX") == "1.2" {
			t.TLSClientConfig.MaxVersion = tls.VersionTLS12
		}
		t.ForceAttemptHTTP2 = os.Args[1] == "http2"
	}
	return t
}

func do(client *http.Client, url string, r [3]*string) []any {
	var body io.Reader
	sent := 0
	if r[2] != nil {
		body, sent = strings.NewReader(*r[2]), len(*r[2])
	}
	request, err := http.NewRequest(*r[0], url+*r[1], body)
	if err != nil {
		panic(err)
	}
	response, err := client.Do(request)
	if err != nil {
		panic(err)
	}
	defer response.Body.Close()
	received, err := io.Copy(io.Discard, response.Body)
	if err != nil {
		panic(err)
	}
	return []any{*r[0], *r[1], response.StatusCode, sent, received}
}

func main() {
	clients := []*http.Client{} // each with a connection of its own, which lives from job to job
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var j job
		if err := json.Unmarshal(lines.Bytes(), &j); err != nil {
			panic(err)
		}
		for len(clients) < j.Connections {
			clients = append(clients, &http.Client{Transport: transport()})
		}
		done := make([][]any, len(j.Requests))
		var wait sync.WaitGroup
		for c := 0; c < j.Connections; c++ {
			wait.Add(1)
			go func(c int) {
				defer wait.Done()
				for i := c; i < len(j.Requests); i += j.Connections {
					done[i] = do(clients[c], j.URL, j.Requests[i])
				}
			}(c)
		}
		wait.Wait()
		out, err := json.Marshal(done)
		if err != nil {
			panic(err)
		}
		fmt.Println(string(out))
	}
}
