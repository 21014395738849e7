package sim

// Sockets is the size of the table of sockets.
func (s *Server) Sockets() int {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	return len(s.hub.sockets)
}

// Steps is the number of steps that have been taken, or been begun by a fault.
func (s *Server) Steps() int64 { return s.faults.steps.Load() }

// WorkerEnded is closed when the worker thread has ended.
func (s *Server) WorkerEnded() <-chan struct{} { return s.worker }
