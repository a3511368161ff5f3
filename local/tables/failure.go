package tables

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// failure is an error in the service's words.
type failure struct {
	status  int
	code    string
	message string
}

func (f *failure) Error() string { return f.code + ": " + f.message }

func fail(status int, code, format string, args ...any) *failure {
	return &failure{status, code, fmt.Sprintf(format, args...)}
}

// What the service answers; codes and sentences are those of its REST
// reference.
var (
	errInput        = fail(http.StatusBadRequest, "InvalidInput", "One of the request inputs is not valid.")
	errTableName    = fail(http.StatusBadRequest, "InvalidResourceName", "The specifed resource name contains invalid characters.")
	errNoKeys       = fail(http.StatusBadRequest, "PropertiesNeedValue", "The values are not specified for all properties in the entity.")
	errNoMatch      = fail(http.StatusBadRequest, "MissingRequiredHeader", "An HTTP header that's mandatory for this request is not specified.")
	errKeySize      = fail(http.StatusBadRequest, "KeyValueTooLarge", "The PartitionKey or RowKey is larger than %d characters.", maxKeyUnits)
	errKeyCharacter = fail(http.StatusBadRequest, "OutOfRangeInput", "One of the request inputs is out of range.")
	errName         = fail(http.StatusBadRequest, "PropertyNameInvalid", "The property name is invalid.")
	errNameSize     = fail(http.StatusBadRequest, "PropertyNameTooLong", "The property name exceeds the maximum allowed length (%d).", maxNameUnits)
	errValueSize    = fail(http.StatusBadRequest, "PropertyValueTooLarge", "The property value exceeds the maximum allowed size (64KB). If the property value is a string, it is UTF-16 encoded and the maximum number of characters should be 32K or less.")
	errProperties   = fail(http.StatusBadRequest, "TooManyProperties", "The entity contains more properties than allowed. Each entity can include up to %d properties to store data. Each entity also has 3 system properties.", maxProperties)
	errEntitySize   = fail(http.StatusBadRequest, "EntityTooLarge", "The entity is larger than the maximum allowed size (1MB).")
	errPartitions   = fail(http.StatusBadRequest, "CommandsInBatchActOnDifferentPartitions", "All commands in a batch must operate on same entity group.")
	errDuplicate    = fail(http.StatusBadRequest, "InvalidDuplicateRow", "The batch request contains multiple changes with same row key. An entity can appear only once in a batch request.")
	errOperations   = fail(http.StatusBadRequest, "InvalidInput", "The batch request operation exceeds the maximum %d changes per change set.", maxOperations)
	errRefused      = fail(http.StatusForbidden, "AuthenticationFailed", "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly including the signature.")
	errNotFound     = fail(http.StatusNotFound, "ResourceNotFound", "The specified resource does not exist.")
	errNoTable      = fail(http.StatusNotFound, "TableNotFound", "The table specified does not exist.")
	errVerb         = fail(http.StatusMethodNotAllowed, "UnsupportedHttpVerb", "The resource doesn't support specified Http Verb.")
	errTableExists  = fail(http.StatusConflict, "TableAlreadyExists", "The table specified already exists.")
	errExists       = fail(http.StatusConflict, "EntityAlreadyExists", "The specified entity already exists.")
	errCondition    = fail(http.StatusPreconditionFailed, "UpdateConditionNotSatisfied", "The update condition specified in the request was not satisfied.")
	errBodySize     = fail(http.StatusRequestEntityTooLarge, "RequestBodyTooLarge", "The request body is too large and exceeds the maximum permissible limit.")
	errNotBuilt     = fail(http.StatusNotImplemented, "NotImplemented", "The local tables do not have this operation.")
	errXML          = fail(http.StatusBadRequest, "InvalidXmlDocument", "The specified XML is not syntactically valid.")
	errNotSecondary = fail(http.StatusBadRequest, "InvalidQueryParameterValue", "Value for one of the query parameters specified in the request URI is invalid.")
	errTwice        = fail(http.StatusBadRequest, "InvalidInput", "A field of the signature stands in its access policy too.")
	errNotGranted   = fail(http.StatusForbidden, "AuthorizationFailure", "This request is not authorized to perform this operation.")
	errRight        = fail(http.StatusForbidden, "AuthorizationPermissionMismatch", "This request is not authorized to perform this operation using this permission.")
	errType         = fail(http.StatusForbidden, "AuthorizationResourceTypeMismatch", "This request is not authorized to perform this operation using this resource type.")
	errService      = fail(http.StatusForbidden, "AuthorizationServiceMismatch", "This request is not authorized to perform this operation using this service.")
	errAddress      = fail(http.StatusForbidden, "AuthorizationSourceIPMismatch", "This request is not authorized to perform this operation using this source IP.")
	errSecondary    = fail(http.StatusForbidden, "InsufficientAccountPermissions", "The secondary endpoint is only read.")
	errBeingDeleted = fail(http.StatusConflict, "TableBeingDeleted", "The specified table is being deleted.")
	errInternal     = fail(http.StatusInternalServerError, "InternalError", "Server encountered an internal error. Please try again after some time.")
	errTimedOut     = fail(http.StatusInternalServerError, "OperationTimedOut", "Operation could not be completed within the specified time.")
	errBusy         = fail(http.StatusServiceUnavailable, "ServerBusy", "The server is busy.")
	errDamaged      = fail(http.StatusInternalServerError, "InternalError", "A stored entity cannot be read; the store file is damaged: restore it from a copy.")
	errFormat       = errors.New("the store file is of another version of this program; use that version, or move the file away to start empty")
)

// at is the failure of one operation of a transaction.
func (f *failure) at(index int) *failure {
	return &failure{f.status, f.code, fmt.Sprintf("%d:%s", index, f.message)}
}

// body is the failure as the service writes it, with what is needed to find the
// request in a log.
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

// internal turns an error into an answer.
func internal(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	return fail(http.StatusInternalServerError, "InternalError", "The server encountered an internal error: %v", err)
}
