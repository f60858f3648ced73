// Asks as told on standard input, by net/http: one by one, then all at once. Prints the answers.
package main

import (
	"encoding/json"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"sync"
)

type told struct {
	URL      string      `json:"url"`
	Requests [][2]string `json:"requests"`
	Chunked  bool        `json:"chunked"`
}

type answer [2]any

func ask(told told, request [2]string) answer {
	var body io.Reader = strings.NewReader(request[1])
	if told.Chunked {
		body = struct{ io.Reader }{body} // its length is not to be seen
	}
	response, err := http.Post(told.URL+request[0], "application/json", body)
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		log.Fatal(err)
	}
	return answer{response.StatusCode, string(text)}
}

func main() {
	var told told
	if err := json.NewDecoder(os.Stdin).Decode(&told); err != nil {
		log.Fatal(err)
	}
	var answers []answer
	for _, request := range told.Requests {
		answers = append(answers, ask(told, request))
	}
	atOnce := make([]answer, len(told.Requests))
	var asking sync.WaitGroup
	for place, request := range told.Requests {
		asking.Add(1)
		go func(place int, request [2]string) {
			defer asking.Done()
			atOnce[place] = ask(told, request)
		}(place, request)
	}
	asking.Wait()
	if err := json.NewEncoder(os.Stdout).Encode(append(answers, atOnce...)); err != nil {
		log.Fatal(err)
	}
}
