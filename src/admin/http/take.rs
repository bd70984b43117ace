//! What a request brings: its body, its path, its query. What is none gets the API's own form of an error, like everything else.

use std::fmt;
use std::marker::PhantomData;

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, Visitor};

use super::{App, Problem};

/// A JSON body, which is an object.
pub(super) struct Body<T>(pub(super) T);

/// What stands in an object: a list of the same values in their order, which serde takes for one, is none.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Object<T>, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(Fields(PhantomData))
    }
}

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Body<T>, Problem> {
        let read: Result<Json<Object<T>>, JsonRejection> = Json::from_request(request, app).await;
        match read {
            Ok(Json(Object(value))) => Ok(Body(value)),
            Err(rejection) => Err(Problem::new(rejection.status(), "request", rejection.body_text())),
        }
    }
}

/// What stands in the path.
pub(super) struct Named<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<App> for Named<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Named<T>, Problem> {
        let read: Result<Path<T>, PathRejection> = Path::from_request_parts(parts, app).await;
        match read {
            Ok(Path(value)) => Ok(Named(value)),
            Err(rejection) => Err(Problem::new(rejection.status(), "request", rejection.body_text())),
        }
    }
}

/// What is asked behind the `?`.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<App> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Asked<T>, Problem> {
        let read: Result<Query<T>, QueryRejection> = Query::from_request_parts(parts, app).await;
        match read {
            Ok(Query(value)) => Ok(Asked(value)),
            Err(rejection) => Err(Problem::new(rejection.status(), "request", rejection.body_text())),
        }
    }
}
