// Go's net/http.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

var (
	base      = os.Args[1]
	transport = &http.Transport{
		MaxIdleConnsPerHost: 50, ExpectContinueTimeout: 30 * time.Second,
	}
	client = &http.Client{Transport: transport, Timeout: 60 * time.Second}
)

type told struct {
	Length   int
	Trailers map[string]string
}

func ensure(holds bool, found ...any) {
	if !holds {
		fmt.Fprintln(os.Stderr, found...)
		os.Exit(1)
	}
}

func ask(request *http.Request) (*http.Response, []byte) {
	begin := time.Now()
	response, err := client.Do(request)
	ensure(err == nil, request.URL, err)
	body, err := io.ReadAll(response.Body)
	ensure(err == nil, request.URL, err)
	response.Body.Close()
	ensure(time.Since(begin) < 20*time.Second, request.URL, "took long")
	return response, body
}

func request(method, path string, body io.Reader) *http.Request {
	request, err := http.NewRequest(method, base+path, body)
	ensure(err == nil, err)
	return request
}

func main() {
	var all sync.WaitGroup
	for n := 0; n < 50; n++ {
		all.Add(1)
		go func(n int) {
			defer all.Done()
			for i := 0; i < 10; i++ {
				_, body := ask(request("GET", fmt.Sprintf("/asset/%d", n), nil))
				ensure(string(body) == strings.Repeat(fmt.Sprint(n), 5000), n)
			}
		}(n)
	}
	all.Wait()

	data := bytes.Repeat([]byte("x"), 5_000_000)
	for _, expect := range []string{"", "100-continue"} {
		for _, body := range []io.Reader{bytes.NewReader(data), io.MultiReader(bytes.NewReader(data))} {
			post := request("POST", "/echo", body)
			if expect != "" {
				post.Header.Set("Expect", expect)
			}
			var answer told
			_, text := ask(post)
			ensure(json.Unmarshal(text, &answer) == nil && answer.Length == len(data), string(text))
		}
	}

	post := request("POST", "/echo", io.MultiReader(strings.NewReader("text")))
	post.Trailer = http.Header{"Digest": {"abc"}}
	var answer told
	_, text := ask(post)
	ensure(json.Unmarshal(text, &answer) == nil && answer.Trailers["digest"] == "abc", string(text))
	response, _ := ask(request("GET", "/trailers", nil))
	ensure(response.Trailer.Get("Digest") == "abc", response.Trailer)

	response, text = ask(request("POST", "/early", bytes.NewReader(make([]byte, 50_000_000))))
	ensure(response.StatusCode == 413 && string(text) == "early", response.Status)
	response, text = ask(request("GET", "/until-close", nil))
	ensure(len(text) == 12000, response.Status, len(text))
}
