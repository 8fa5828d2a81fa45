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

// source is a document as its author wrote it, for use in errors. Decoded values can differ from their text: the number
// 1.10 becomes 1.1, and the word no becomes false.
type source struct {
	root func() *yamlv3.Node // returns the document
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

// written returns the text of the value at a path, as in the document. It returns the decoded value if the text gives
// no further information, or if the text may be a password.
func (s *source) written(path field.Path, value any) any {
	node := s.find(s.root(), "", path)
	if node == nil {
		return value
	}
	// Errors show an object as {…} and a list as […], because the contents may include a password.
	if _, isText := value.(string); isText && node.Kind == yamlv3.MappingNode {
		return collection("{", node, "}")
	} else if isText && node.Kind == yamlv3.SequenceNode {
		return collection("[", node, "]")
	}
	// Return a possible password as the decoded value: field.Invalid hides passwords in strings, but not in a
	// field.Raw.
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

// find searches node, which has the path at, and the tree below it for the given path. It returns nil if no node has
// this path.
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

// membersOf returns the children of node by path. The Go type of node is unknown, so each member of an object has two
// paths: that of a struct field, and that of a map value.
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
	paths []field.Path // all paths that errors may use for the node
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

// unrepresentable returns the path and text of the first number that JSON cannot represent, such as .inf. Both are
// empty if JSON can represent all numbers.
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

// notDecimal returns an error for each number that YAML may read differently than the author means: 0200 is octal,
// which is 128.
func notDecimal(path field.Path, node *yamlv3.Node) field.ErrorList {
	if tag := node.ShortTag(); node.Kind == yamlv3.ScalarNode && (tag == "!!int" || tag == "!!float") && !decimal.MatchString(node.Value) {
		number, err := yaml.YAMLToJSON([]byte(node.Value))
		if err != nil || isFileMode(path) {
			return nil // file modes are usually octal
		}
		expected := fmt.Sprintf("must be a decimal number: YAML reads it as %[1]s: write %[1]s", number)
		if without := leadingZeros.ReplaceAllString(node.Value, "$1$2"); without != node.Value && without != string(number) {
			expected += " or " + without
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

// hasBinary reports whether a value has the tag !!binary. Errors about such a document must not be shown: they may
// quote a decoded password.
func (s *source) hasBinary() bool { return hasBinary(s.root()) }

func hasBinary(node *yamlv3.Node) bool {
	return node.ShortTag() == "!!binary" || slices.ContainsFunc(node.Content, hasBinary)
}
