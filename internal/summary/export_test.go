package summary

// Queued returns the number of requests that wait for the writer goroutine.
func (s *Service) Queued() int { return len(s.queue) }
