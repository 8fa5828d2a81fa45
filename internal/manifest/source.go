package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	yamlv3 "go.yaml.in/yaml/v3"
	"sigs.k8s.io/yaml"

	"github.com/parking-operator/parking-operator/internal/field"
)

// source is a document as its author wrote it. Decoded values do not show how they were written: YAML decodes 1.10 as
// 1.1, and the word "no" as false.
type source struct {
	root func() *yamlv3.Node // returns the document, which the first call parses
	// members caches the results of membersOf, so that a large object with many errors is scanned only once.
	members map[member]map[field.Path]*yamlv3.Node
}

// member is a YAML node with one of its paths. A node has several paths if aliases refer to it.
type member struct {
	node *yamlv3.Node
	at   field.Path
}

// newSource returns the source of a document in YAML or JSON. If the document cannot be parsed, the source is empty.
func newSource(text []byte) *source {
	return &source{members: map[member]map[field.Path]*yamlv3.Node{}, root: sync.OnceValue(func() *yamlv3.Node {
		var compact bytes.Buffer
		if json.Compact(&compact, text) == nil { // remove tabs, which the YAML parser rejects
			text = compact.Bytes()
		}
		document := new(yamlv3.Node)
		if yamlv3.Unmarshal(text, document) != nil || len(document.Content) == 0 {
			return new(yamlv3.Node)
		}
		return document.Content[0]
	})}
}

// written returns the value at a path for an error message, in the form in which the document contains it. It hides the
// contents of objects and lists, because they may contain a password.
//
// The result is a field.Raw, which errors show without quotes. In three cases, the result is the decoded value instead:
//
//   - The document has no value at the path.
//   - The value is null or a string.
//   - The value may be a password. field.Invalid hides a password in a string, but not in a field.Raw.
func (s *source) written(path field.Path, value any) any {
	node := s.find(s.root(), "", path)
	if node == nil {
		return value
	}
	if _, isText := value.(string); isText && node.Kind == yamlv3.MappingNode {
		return collection("{", node, "}")
	} else if isText && node.Kind == yamlv3.SequenceNode {
		return collection("[", node, "]")
	}
	if node.Kind != yamlv3.ScalarNode || node.Style != 0 || node.ShortTag() == "!!null" || field.MayHoldPassword(node.Value) {
		return value
	}
	if node.Value == fmt.Sprint(value) && node.ShortTag() == "!!str" {
		return value
	}
	return field.Raw(node.Value)
}

func collection(left string, node *yamlv3.Node, right string) field.Raw {
	if len(node.Content) == 0 {
		return field.Raw(left + right)
	}
	return field.Raw(left + "…" + right)
}

// find returns the node at a path, or nil. It searches the given node, whose path is at, and the tree below it.
func (s *source) find(node *yamlv3.Node, at, path field.Path) *yamlv3.Node {
	if node.Kind == yamlv3.AliasNode {
		node = node.Alias
	}
	if at == path {
		return node
	}
	members := s.membersOf(node, at)
	for end := len(at) + 1; end <= len(path); end++ {
		if child, ok := members[path[:end]]; ok {
			if found := s.find(child, path[:end], path); found != nil {
				return found
			}
		}
	}
	return nil
}

// membersOf returns the members of an object or the items of a list by their paths. A path ends with .name for a field
// of a struct, and with [name] for a key of a map. It depends on the Go type which of the two is used, and a source
// does not know this type. So the result contains each member under both paths.
func (s *source) membersOf(node *yamlv3.Node, at field.Path) map[field.Path]*yamlv3.Node {
	key := member{node, at}
	members, known := s.members[key]
	if !known {
		members = map[field.Path]*yamlv3.Node{}
		for _, child := range childrenOf(node, at) {
			for _, form := range child.paths {
				members[form] = child.node
			}
		}
		s.members[key] = members
	}
	return members
}

// childNode is a member of an object or an item of a list.
type childNode struct {
	paths []field.Path // all paths that errors may use for the node; see membersOf
	node  *yamlv3.Node
}

func childrenOf(node *yamlv3.Node, at field.Path) []childNode {
	var children []childNode
	switch node.Kind {
	case yamlv3.SequenceNode:
		for i, item := range node.Content {
			children = append(children, childNode{[]field.Path{at.Index(i)}, item})
		}
	case yamlv3.MappingNode:
		for i := 0; i+1 < len(node.Content); i += 2 {
			key := node.Content[i].Value
			children = append(children, childNode{[]field.Path{memberPath(at, key), at.Child(key), at.Key(key)}, node.Content[i+1]})
		}
	}
	return children
}

// memberPath returns the path of a member of an object. The path ends with [name] if the object is decoded into a map,
// and with .name otherwise.
func memberPath(object field.Path, name string) field.Path {
	for _, of := range []string{"labels", "annotations", "nodeSelector", "limits", "requests"} {
		if strings.HasSuffix(string(object), "."+of) {
			return object.Key(name)
		}
	}
	return object.Child(name)
}

// unrepresentable finds the first number that JSON cannot represent, such as .inf. It returns the path and the text of
// the number, or empty strings if JSON can represent all numbers.
func (s *source) unrepresentable() (field.Path, string) { return unrepresentableIn("", s.root()) }

func unrepresentableIn(path field.Path, node *yamlv3.Node) (field.Path, string) {
	special := []string{".inf", "+.inf", "-.inf", ".nan"}
	if node.Kind == yamlv3.ScalarNode && node.Tag == "!!float" && slices.Contains(special, strings.ToLower(node.Value)) {
		return path, node.Value
	}
	for _, child := range childrenOf(node, path) {
		if at, number := unrepresentableIn(child.paths[0], child.node); number != "" {
			return at, number
		}
	}
	return "", ""
}

var (
	decimal      = regexp.MustCompile(`^[-+]?(0|[1-9]\d*)?([.]\d*)?([eE][-+]?\d+)?$`)
	leadingZeros = regexp.MustCompile(`^([-+]?)0+([1-9]\d*)$`)
)

// notDecimal returns an error for each number in the tree that is not decimal or has leading zeros. YAML may read such
// a number differently than the author means: 0200 is octal, which is 128. File modes are allowed, because they are
// usually octal.
func notDecimal(path field.Path, node *yamlv3.Node) field.ErrorList {
	if tag := node.ShortTag(); node.Kind == yamlv3.ScalarNode && (tag == "!!int" || tag == "!!float") && !decimal.MatchString(node.Value) {
		number, err := yaml.YAMLToJSON([]byte(node.Value))
		if err != nil || isFileMode(path) {
			return nil
		}
		expected := fmt.Sprintf("must be a decimal number: YAML reads it as %[1]s: write %[1]s", number)
		if without := leadingZeros.ReplaceAllString(node.Value, "$1$2"); without != node.Value && without != string(number) {
			expected += fmt.Sprintf(", or %s without leading zeros", without)
		}
		return field.ErrorList{field.Invalid(path, field.Raw(node.Value), expected)}
	}
	var list field.ErrorList
	for _, child := range childrenOf(node, path) {
		list = append(list, notDecimal(child.paths[0], child.node)...)
	}
	return list
}

// isFileMode reports whether the value at a path is the mode of a file in a volume.
func isFileMode(path field.Path) bool {
	return strings.HasSuffix(string(path), ".mode") || strings.HasSuffix(string(path), ".defaultMode")
}

// hasBinary reports whether the document contains a value with the tag !!binary. Errors about such a document must not
// be shown, because they may quote the decoded value, and the value may be a password.
func (s *source) hasBinary() bool { return hasBinary(s.root()) }

func hasBinary(node *yamlv3.Node) bool {
	return node.ShortTag() == "!!binary" || slices.ContainsFunc(node.Content, hasBinary)
}
