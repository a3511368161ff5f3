package tables

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// failure is an error as the service words it.
type failure struct {
	status  int
	code    string
	message string
}

func (f *failure) Error() string { return f.code + ": " + f.message }

func newFailure(status int, code, format string, args ...any) *failure {
	return &failure{status, code, fmt.Sprintf(format, args...)}
}

// What the service answers; codes and sentences are those of its REST
// reference.
var (
	errInput     = newFailure(http.StatusBadRequest, "InvalidInput", "One of the request inputs is not valid.")
	errTableName = newFailure(http.StatusBadRequest, "InvalidResourceName", "The specifed resource name contains invalid characters.")
	errNoKeys    = newFailure(
		http.StatusBadRequest,
		"PropertiesNeedValue",
		"The values are not specified for all properties in the entity.",
	)
	errNoMatch = newFailure(
		http.StatusBadRequest,
		"MissingRequiredHeader",
		"An HTTP header that's mandatory for this request is not specified.",
	)
	errKeySize = newFailure(
		http.StatusBadRequest,
		"KeyValueTooLarge",
		"The PartitionKey or RowKey is larger than %d characters.",
		maxKeyUnits,
	)
	errKeyCharacter = newFailure(http.StatusBadRequest, "OutOfRangeInput", "One of the request inputs is out of range.")
	errName         = newFailure(http.StatusBadRequest, "PropertyNameInvalid", "The property name is invalid.")
	errNameSize     = newFailure(
		http.StatusBadRequest,
		"PropertyNameTooLong",
		"The property name exceeds the maximum allowed length (%d).",
		maxNameUnits,
	)
	errValueSize = newFailure(
		http.StatusBadRequest,
		"PropertyValueTooLarge",
		"The property value exceeds the maximum allowed size (64KB). If the property value is a string, it is UTF-16 encoded "+
			"and the maximum number of characters should be 32K or less.",
	)
	errProperties = newFailure(
		http.StatusBadRequest,
		"TooManyProperties",
		"The entity contains more properties than allowed. Each entity can include up to %d properties to store data. Each "+
			"entity also has 3 system properties.",
		maxProperties,
	)
	errEntitySize = newFailure(http.StatusBadRequest, "EntityTooLarge", "The entity is larger than the maximum allowed size (1MB).")
	errPartitions = newFailure(
		http.StatusBadRequest,
		"CommandsInBatchActOnDifferentPartitions",
		"All commands in a batch must operate on same entity group.",
	)
	errDuplicate = newFailure(
		http.StatusBadRequest,
		"InvalidDuplicateRow",
		"The batch request contains multiple changes with same row key. An entity can appear only once in a batch request.",
	)
	errOperations = newFailure(
		http.StatusBadRequest,
		"InvalidInput",
		"The batch request operation exceeds the maximum %d changes per change set.",
		maxOperations,
	)
	errRefused = newFailure(
		http.StatusForbidden,
		"AuthenticationFailed",
		"Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly including "+
			"the signature.",
	)
	errNotFound    = newFailure(http.StatusNotFound, "ResourceNotFound", "The specified resource does not exist.")
	errNoTable     = newFailure(http.StatusNotFound, "TableNotFound", "The table specified does not exist.")
	errVerb        = newFailure(http.StatusMethodNotAllowed, "UnsupportedHttpVerb", "The resource doesn't support specified Http Verb.")
	errTableExists = newFailure(http.StatusConflict, "TableAlreadyExists", "The table specified already exists.")
	errExists      = newFailure(http.StatusConflict, "EntityAlreadyExists", "The specified entity already exists.")
	errCondition   = newFailure(
		http.StatusPreconditionFailed,
		"UpdateConditionNotSatisfied",
		"The update condition specified in the request was not satisfied.",
	)
	errBodySize = newFailure(
		http.StatusRequestEntityTooLarge,
		"RequestBodyTooLarge",
		"The request body is too large and exceeds the maximum permissible limit.",
	)
	errNotBuilt     = newFailure(http.StatusNotImplemented, "NotImplemented", "The local tables do not have this operation.")
	errXML          = newFailure(http.StatusBadRequest, "InvalidXmlDocument", "The specified XML is not syntactically valid.")
	errNotSecondary = newFailure(
		http.StatusBadRequest,
		"InvalidQueryParameterValue",
		"Value for one of the query parameters specified in the request URI is invalid.",
	)
	errTwice      = newFailure(http.StatusBadRequest, "InvalidInput", "A field of the signature stands in its access policy too.")
	errNotGranted = newFailure(http.StatusForbidden, "AuthorizationFailure", "This request is not authorized to perform this operation.")
	errRight      = newFailure(
		http.StatusForbidden,
		"AuthorizationPermissionMismatch",
		"This request is not authorized to perform this operation using this permission.",
	)
	errType = newFailure(
		http.StatusForbidden,
		"AuthorizationResourceTypeMismatch",
		"This request is not authorized to perform this operation using this resource type.",
	)
	errService = newFailure(
		http.StatusForbidden,
		"AuthorizationServiceMismatch",
		"This request is not authorized to perform this operation using this service.",
	)
	errAddress = newFailure(
		http.StatusForbidden,
		"AuthorizationSourceIPMismatch",
		"This request is not authorized to perform this operation using this source IP.",
	)
	errSecondary    = newFailure(http.StatusForbidden, "InsufficientAccountPermissions", "The secondary endpoint is only read.")
	errBeingDeleted = newFailure(http.StatusConflict, "TableBeingDeleted", "The specified table is being deleted.")
	errInternal     = newFailure(
		http.StatusInternalServerError,
		"InternalError",
		"Server encountered an internal error. Please try again after some time.",
	)
	errTimedOut = newFailure(
		http.StatusInternalServerError,
		"OperationTimedOut",
		"Operation could not be completed within the specified time.",
	)
	errBusy    = newFailure(http.StatusServiceUnavailable, "ServerBusy", "The server is busy.")
	errDamaged = newFailure(
		http.StatusInternalServerError,
		"InternalError",
		"A stored entity cannot be read; the store file is damaged: restore it from a copy.",
	)
	errFormat = errors.New(
		"the store file is of another version of this program; use that version, or move the file away to start empty",
	)
)

// at is the failure of one operation of a transaction.
func (f *failure) at(index int) *failure {
	return &failure{f.status, f.code, fmt.Sprintf("%d:%s", index, f.message)}
}

// body is the failure as the service writes it, with the request id and the time,
// so that the request can be found in a log.
func (f *failure) body(requestID string) []byte {
	message := fmt.Sprintf("%s\nRequestId:%s\nTime:%s", f.message, requestID, time.Now().UTC().Format("2006-01-02T15:04:05.0000000Z"))
	b := append([]byte(`{"odata.error":{"code":`), appendString(nil, f.code)...)
	b = append(b, `,"message":{"lang":"en-US","value":`...)
	return append(appendString(b, message), "}}}"...)
}

func (f *failure) write(w http.ResponseWriter) {
	h := w.Header()
	h.Set("x-ms-error-code", f.code)
	h.Set("Content-Type", minimalMetadata+contentSuffix)
	w.WriteHeader(f.status)
	w.Write(f.body(h.Get(requestIDHeader)))
}

// internalFailure turns an error into an answer.
func internalFailure(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	return newFailure(http.StatusInternalServerError, "InternalError", "The server encountered an internal error: %v", err)
}
