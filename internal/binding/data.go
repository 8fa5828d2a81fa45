package binding

// Data returns the address of a service whose binding is the content of a Secret, with the keys and by the
// rules of Folder. Errors name the key, and quote no value.
func Data(s Service, data map[string][]byte) (Address, error) {
	return s.read(func(key string) (string, error) { return withoutLineEnd(string(data[key])), nil })
}
