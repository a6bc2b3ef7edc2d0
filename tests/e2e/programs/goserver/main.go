// The test paths of pyserver.py on Go's net/http: goserver PORT [CALL_URL [BACKGROUND_URL]]
// With TEST_TLS_CERT and TEST_TLS_KEY it speaks TLS, and HTTP/2 to those who ask for it.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

var client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}

func get(url string) bool {
	response, err := client.Get(url)
	if err != nil {
		return false
	}
	io.Copy(io.Discard, response.Body)
	response.Body.Close()
	return response.StatusCode == 200
}

func fill(c string, n int) string { return strings.Repeat(c, n) }

func handle(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(r.URL.Path, "/")
	number := func() int {
		n, _ := strconv.Atoi(parts[2])
		return n
	}
	reply := func(status int, body string) {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
	switch parts[1] {
	case "size":
		reply(200, fill("x", number()))
	case "chunked":
		for left := number(); left > 0; left -= 700 {
			n := left
			if n > 700 {
				n = 700
			}
			io.WriteString(w, fill("c", n))
			w.(http.Flusher).Flush()
		}
	case "status":
		reply(number(), "")
	case "echo":
		body, _ := io.ReadAll(r.Body)
		reply(200, string(body))
	case "chain":
		status := 200
		if !get(os.Args[2] + "/chain/" + parts[2]) {
			status = 502
		}
		reply(status, "go "+parts[2])
	default:
		reply(200, "ok "+parts[len(parts)-1])
	}
}

func main() {
	if len(os.Args) > 3 {
		go func() {
			for n := 0; ; n++ {
				get(fmt.Sprintf("%s/bg/go-%d-%d", os.Args[3], os.Getpid(), n))
				time.Sleep(5 * time.Millisecond)
			}
		}()
	}
	http.HandleFunc("/", handle)
	address := "127.0.0.1:" + os.Args[1]
	if cert := os.Getenv("TEST_TLS_CERT"); cert != "" {
		fmt.Fprintln(os.Stderr, http.ListenAndServeTLS(address, cert, os.Getenv("TEST_TLS_KEY"), nil))
	} else {
		fmt.Fprintln(os.Stderr, http.ListenAndServe(address, nil))
	}
	os.Exit(1)
}
