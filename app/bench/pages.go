package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"time"
)

const (
	pagesJobs  = 100_000
	pageReads  = 40
	pageAim    = 50 * time.Millisecond
	dashboards = 200
	busyCards  = 64
	watchTime  = 5 * time.Second
)

// pages is how fast the dashboard's pages come on a service with 100 000 jobs and 64 workers, and what 200 open
// dashboards cost while all of them are busy.
func pages(ctx context.Context, l *lab) ([]figure, error) {
	dir := l.file("data")
	if err := fill(ctx, dir, pagesJobs); err != nil {
		return nil, err
	}
	s, err := l.serve(ctx, dir, fmt.Sprintf("COMFYFLEET_WORKERS=sim:%d", busyCards), fmt.Sprintf("COMFYFLEET_MIN_READY=%d", busyCards), "COMFYFLEET_SIM_ARGS=--test-nodes")
	if err != nil {
		return nil, err
	}
	person, err := s.signIn()
	if err != nil {
		return nil, err
	}
	defer person.CloseIdleConnections()
	nothing, err := pageTime(ctx, person, "http://"+s.address+"/livez")
	if err != nil {
		return nil, err
	}
	var figures []figure
	for _, p := range []struct{ name, path string }{
		{"dashboard: overview", "/overview"}, {"dashboard: job list of 100 000", "/jobs"}, {"dashboard: GPUs", "/gpus"},
	} {
		took, err := pageTime(ctx, person, "http://"+s.address+p.path)
		if err != nil {
			return figures, err
		}
		figures = append(figures, figure{name: p.name, value: "median " + ms(took), against: "/livez " + ms(nothing),
			ratio: took.Seconds() / nothing.Seconds(), aim: "≤ 50 ms", met: took <= pageAim})
	}
	watched, err := s.watchers(ctx, person)
	return append(figures, watched...), err
}

// signIn is an operator's browser.
func (s *service) signIn() (*http.Client, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	browser := &http.Client{Jar: jar, Transport: &http.Transport{MaxIdleConnsPerHost: dashboards}}
	resp, err := browser.PostForm("http://"+s.address+"/signin", url.Values{"email": {adminMail}, "password": {adminPass}})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Request.URL.Path == "/signin" {
		return nil, fmt.Errorf("sign in: %s at %s", resp.Status, resp.Request.URL)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return browser, err
}

func pageTime(ctx context.Context, browser *http.Client, address string) (time.Duration, error) {
	var took times
	for range pageReads {
		began := time.Now()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return 0, err
		}
		resp, err := browser.Do(req)
		if err != nil {
			return 0, err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err != nil {
			return 0, err
		}
		if resp.StatusCode != http.StatusOK || resp.Request.URL.Path == "/signin" {
			return 0, fmt.Errorf("%s: %s at %s", address, resp.Status, resp.Request.URL.Path)
		}
		took = append(took, time.Since(began))
	}
	return took.at(0.5), nil
}

// watchers is what open dashboards cost while every worker runs a job.
func (s *service) watchers(ctx context.Context, browser *http.Client) ([]figure, error) {
	if _, err := s.startJobs(busyCards); err != nil {
		return nil, err
	}
	quiet, err := s.cpuDuring(ctx, watchTime)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, dashboards)
	opened := make(chan struct{}, dashboards)
	for range dashboards {
		go func() { ended <- watch(ctx, browser, "http://"+s.address+"/live/overview", opened) }()
	}
	var busy float64
	for range dashboards {
		select {
		case <-opened:
		case err = <-ended:
		}
		if err != nil {
			break
		}
	}
	if err == nil {
		busy, err = s.cpuDuring(ctx, watchTime)
	}
	cancel()
	if err != nil {
		return nil, err
	}
	for range dashboards {
		<-ended
	}
	return []figure{{name: fmt.Sprintf("dashboard: %d open ones of %d busy workers, processor time", dashboards, busyCards), value: fmt.Sprintf("%.0f %% of a core", 100*busy),
		against: fmt.Sprintf("%.0f %% with none", 100*quiet), ratio: busy / max(quiet, 0.001), aim: "≤ 100 %", met: busy <= 1}}, nil
}

// watch reads a live page until ctx ends.
func watch(ctx context.Context, browser *http.Client, address string, opened chan<- struct{}) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	resp, err := browser.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", address, resp.Status)
	}
	opened <- struct{}{}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// cpuDuring is the share of one core that the service uses over a time.
func (s *service) cpuDuring(ctx context.Context, span time.Duration) (float64, error) {
	before, err := s.cpu()
	if err != nil {
		return 0, err
	}
	began := time.Now()
	select {
	case <-time.After(span):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	after, err := s.cpu()
	return (after - before).Seconds() / time.Since(began).Seconds(), err
}
