// Both ends of TLS connections in one process, which read and write pieces of any size: kt_go_tls SEED. Stacks
// grow and shrink and the collector runs all the time. Says that it waits for a byte of input, then which paths
// were asked.
package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	random "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"math/rand"
	"net"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"
)

const connections, requests = 8, 25

// Deeper and deeper, so that the stack moves before each read.
func read(c net.Conn, b []byte, depth int) (int, error) {
	var room [512]byte
	if depth > 0 {
		n, err := read(c, b, depth-1)
		room[depth] = byte(n)
		return n, err
	}
	return c.Read(b)
}

func exactly(c net.Conn, n int, r *rand.Rand) []byte {
	out := make([]byte, 0, n)
	for len(out) < n {
		var little [300]byte
		b := little[:]
		if r.Intn(2) == 0 {
			b = make([]byte, 40000)
		}
		if left := n - len(out); len(b) > left {
			b = b[:left]
		}
		got, err := read(c, b[:1+r.Intn(len(b))], r.Intn(20))
		if err != nil {
			panic(err)
		}
		out = append(out, b[:got]...)
	}
	return out
}

// The head of a message and the length of its body; none at the end.
func head(c net.Conn) (string, int) {
	var all []byte
	for !bytes.HasSuffix(all, []byte("\r\n\r\n")) {
		var one [1]byte
		if _, err := read(c, one[:], 0); err == io.EOF && len(all) == 0 {
			return "", 0
		} else if err != nil {
			panic(err)
		}
		all = append(all, one[0])
	}
	text := string(all)
	_, after, _ := strings.Cut(text, "Content-Length: ")
	digits, _, _ := strings.Cut(after, "\r")
	n, err := strconv.Atoi(digits)
	if err != nil {
		panic(text)
	}
	return text, n
}

func write(c net.Conn, text string, r *rand.Rand) {
	for len(text) > 0 {
		n := 1 + r.Intn(50000)
		if n > len(text) {
			n = len(text)
		}
		if _, err := c.Write([]byte(text[:n])); err != nil {
			panic(err)
		}
		text = text[n:]
	}
}

func serve(c net.Conn, seed int64) {
	r := rand.New(rand.NewSource(seed))
	for {
		text, n := head(c)
		if text == "" {
			c.Close()
			return
		}
		body := exactly(c, n, r)
		write(c, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", n, body), r)
	}
}

// Of localhost; what trusts it.
func certificate() (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), random.Reader)
	if err != nil {
		panic(err)
	}
	own := x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(random.Reader, &own, &own, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func main() {
	debug.SetGCPercent(1)
	fmt.Println("pause begin")
	if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
		panic(err)
	}
	seed, _ := strconv.ParseInt(os.Args[1], 10, 64)
	pair, pool := certificate()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		panic(err)
	}
	go func() {
		for n := int64(0); ; n++ {
			c, err := listener.Accept()
			if err != nil {
				panic(err)
			}
			go serve(c, seed+n)
		}
	}()
	var wait sync.WaitGroup
	var printing sync.Mutex
	for k := 0; k < connections; k++ {
		wait.Add(1)
		go func(k int) {
			defer wait.Done()
			r := rand.New(rand.NewSource(seed + 1000 + int64(k)))
			c, err := tls.Dial("tcp", listener.Addr().String(), &tls.Config{RootCAs: pool, ServerName: "localhost"})
			if err != nil {
				panic(err)
			}
			for n := 0; n < requests; n++ {
				size := []int{0, 1, r.Intn(300), r.Intn(70000)}[r.Intn(4)]
				path := fmt.Sprintf("/size/%d-%d-%d", k, n, size)
				write(c, fmt.Sprintf("POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", path, size,
					strings.Repeat("x", size)), r)
				if _, back := head(c); back != size {
					panic(back)
				}
				exactly(c, size, r)
				printing.Lock()
				fmt.Println(path)
				printing.Unlock()
			}
			c.Close()
		}(k)
	}
	wait.Wait()
}
