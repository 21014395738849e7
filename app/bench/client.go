package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// requestLimit bounds one request with its answer.
const requestLimit = 2 * time.Minute

// client is one kept-alive connection. It costs little beside net/http's: the load generator shares the cores with what
// it measures.
type client struct {
	conn   net.Conn
	r      *bufio.Reader
	header string // of every request
	body   bytes.Buffer
}

// dial connects to the service with the key.
func (s *service) dial() (*client, error) {
	conn, err := net.DialTimeout("tcp", s.address, 5*time.Second)
	if err != nil {
		return nil, err
	}
	return &client{conn: conn, r: bufio.NewReaderSize(conn, 64<<10),
		header: "Host: " + s.address + "\r\nAuthorization: Bearer " + benchKey + "\r\n"}, nil
}

func (c *client) close() { _ = c.conn.Close() }

// request writes the head of a request and the beginning of its body, which has size bytes in all.
func (c *client) request(method, path string, size int64, body []byte, header ...string) error {
	if err := c.conn.SetDeadline(time.Now().Add(requestLimit)); err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n%s", method, path, c.header)
	for _, h := range header {
		b.WriteString(h + "\r\n")
	}
	if method == http.MethodPost {
		fmt.Fprintf(&b, "Content-Type: application/json\r\nContent-Length: %d\r\n", size)
	}
	b.WriteString("\r\n")
	all := net.Buffers{[]byte(b.String()), body} // in one call to the system
	_, err := all.WriteTo(c.conn)
	return err
}

// answer reads an answer of status 200 into w.
func (c *client) answer(w io.Writer) error {
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
		return fmt.Errorf("answered %s: %s", resp.Status, text)
	}
	_, err = io.Copy(w, resp.Body)
	return err
}

// get reads a path; the bytes are good until the next call.
func (c *client) get(path string, header ...string) ([]byte, error) {
	if err := c.request(http.MethodGet, path, 0, nil, header...); err != nil {
		return nil, fmt.Errorf("GET %s: %w", path, err)
	}
	c.body.Reset()
	if err := c.answer(&c.body); err != nil {
		return nil, fmt.Errorf("GET %s: %w", path, err)
	}
	return c.body.Bytes(), nil
}

// job is the part of a job's status that is looked at here.
type job struct {
	ID       string `json:"job_id"`
	Status   string `json:"status"`
	Phase    string `json:"phase"`
	PromptID string `json:"prompt_id"`
	Error    string `json:"error"`
}

// submit posts a request of the API.
func (c *client) submit(body []byte, header ...string) (j job, err error) {
	if err := c.request(http.MethodPost, "/v1/jobs", int64(len(body)), body, header...); err != nil {
		return j, err
	}
	c.body.Reset()
	if err := c.answer(&c.body); err != nil {
		return j, fmt.Errorf("POST /v1/jobs: %w", err)
	}
	return j, json.Unmarshal(c.body.Bytes(), &j)
}

// complete submits and waits for the end, which must be a good one.
func (c *client) complete(body []byte) (job, error) {
	j, err := c.submit(body, "Prefer: wait=60")
	if err == nil && j.Status != "completed" {
		err = fmt.Errorf("job %s is %s: %s", j.ID, j.Status, j.Error)
	}
	return j, err
}

// job reads a job's status without its outputs' bytes.
func (c *client) job(id string) (j job, err error) {
	raw, err := c.get("/v1/jobs/" + id + "?data=none")
	if err != nil {
		return j, err
	}
	return j, json.Unmarshal(raw, &j)
}

// each runs do in n goroutines with a connection each and returns the first error. do gets the number of its goroutine.
func (s *service) each(n int, do func(i int, c *client) error) error {
	return together(n, func(i int) error {
		c, err := s.dial()
		if err != nil {
			return err
		}
		defer c.close()
		return do(i, c)
	})
}

func together(n int, do func(i int) error) error {
	errs := make(chan error, n)
	for i := range n {
		go func() { errs <- do(i) }()
	}
	var first error
	for range n {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return first
}
