package summary

// Queued returns the number of requests that wait for the writer.
func (s *Service) Queued() int { return len(s.queue) }
