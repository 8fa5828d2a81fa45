package v1alpha1

import "encoding/json"

// The schema may have changed since an object was stored. One object that cannot be decoded would end every list and
// watch of the operator, and so stop the simulations of everyone. Therefore a value of a wrong type is no error here.

// UnmarshalJSON decodes a spec. It skips values whose type is wrong. If there are any, it keeps the whole text in
// Undecodable, so that the simulation can be reported as invalid.
func (s *ParkingSimulationSpec) UnmarshalJSON(text []byte) error {
	type spec ParkingSimulationSpec // without this method
	var decoded spec
	if json.Unmarshal(text, &decoded) != nil {
		decoded.Undecodable = append([]byte(nil), text...)
	}
	*s = ParkingSimulationSpec(decoded)
	return nil
}

// UnmarshalJSON decodes a status. A stored status that cannot be decoded, for example because of an invalid time, is
// empty: the operator rewrites it.
func (s *ParkingSimulationStatus) UnmarshalJSON(text []byte) error {
	type status ParkingSimulationStatus // without this method
	var decoded status
	if json.Unmarshal(text, &decoded) != nil {
		decoded = status{}
	}
	*s = ParkingSimulationStatus(decoded)
	return nil
}
