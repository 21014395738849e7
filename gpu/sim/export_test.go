package sim

// Sockets is the size of the table of sockets.
func (s *Server) Sockets() int {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	return len(s.hub.sockets)
}

// Backlog is the number of events that wait for the publisher.
func (s *Server) Backlog() int { return len(s.hub.queue) }

// WorkerEnded is closed when the worker thread has ended.
func (s *Server) WorkerEnded() <-chan struct{} { return s.worker }
