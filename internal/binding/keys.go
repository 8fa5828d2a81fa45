package binding

import "fmt"

// Keys reads the values of keys of a Secret that is mounted at dir, all of them of one version of the
// Secret, for what is no binding to a server. A key that is not there has the value "". One trailing line
// end is dropped from each value, and errors name the folder and the key.
func Keys(dir string, keys ...string) (map[string]string, error) {
	files := secretFiles{dir: snapshot(dir)}
	values := make(map[string]string, len(keys))
	for _, key := range keys {
		value, err := files.text(key)
		if err != nil {
			return nil, fmt.Errorf("read the Secret in %s: %w", dir, err)
		}
		values[key] = value
	}
	return values, nil
}
